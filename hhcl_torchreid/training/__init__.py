"""What a run keeps: its history, its state, its folder, its pictures."""
