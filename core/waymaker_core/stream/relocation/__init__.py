"""Relocation: which blocks are written anew, and where their messages lie afterwards."""
