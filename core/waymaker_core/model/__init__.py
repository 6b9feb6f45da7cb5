"""Values that all other packages speak of. They import nothing but each other."""
