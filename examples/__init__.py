"""Pages and experiments that use the package as anybody would."""
