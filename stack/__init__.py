"""The parts of the pilot; importing them declares nothing."""
