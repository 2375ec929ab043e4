"""The commands, one file each: parse options, call a function, print the result."""
