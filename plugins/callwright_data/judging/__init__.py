"""Stage one of the paper's pipeline and its last evaluation: a judge reads rows, and corrects them."""
