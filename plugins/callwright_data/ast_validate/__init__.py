"""Stage two of the paper's pipeline: rules for tools and answers, each finding with a code."""
