"""The Berkeley Function Calling Leaderboard's single-turn categories, asked, judged and counted as bfcl-eval does."""
