"""Backups: directories with an archive a stream and an index that says what is in them. Made, read and verified here."""
