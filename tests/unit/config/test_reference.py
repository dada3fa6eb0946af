"""Settings explain themselves: every key and every section says what it is for."""
