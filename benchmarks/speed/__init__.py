"""What training, feeding and packing cost; what an accelerator does; what a run executes."""
