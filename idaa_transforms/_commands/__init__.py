"""What the ``idaa`` commands do, each as a function of its parsed arguments; its docstring is its help."""
