"""Sub-commands, a module for each group of them; the root imports a module when its command is used."""
