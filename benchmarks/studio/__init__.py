"""What using a run costs, and what the studio's page withstands."""
