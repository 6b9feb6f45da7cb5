"""Values that every other room speaks of. They import nothing but each other."""
