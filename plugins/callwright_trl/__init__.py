"""Reward functions of other libraries as rewards of a recipe: `use: trl`, `use: verl`, `use: ms_swift`."""
