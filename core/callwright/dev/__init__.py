"""`callwright dev`: a reward judged anew whenever its file is saved."""
