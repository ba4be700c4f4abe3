"""What is logged, as plain records that know no tracking server."""
