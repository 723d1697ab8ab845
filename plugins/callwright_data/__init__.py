"""Rows for training: where they come from and what is done with them before a run.

- `sources`: one file for each format, from BFCL's to a hub's; `_rows` makes tasks of rows.
- `stages`: one file for each stage that decides by rule, and `difficulty`, which lets a model try.
- `ast_validate`: the rules for tools and answers.
- `judging`: the stages that ask a language model, and the models they ask.
- `tools_from_python`: tools read out of a Python module without running it.
"""
