"""What executes a network, behind one small protocol."""
