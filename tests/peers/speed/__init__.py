"""What other tools take for calibration and for a simulated forward, in their own float forwards."""
