"""What scores say where the answer is known."""
