"""How good a model is: what is trained and tested on which clips, and what the scores say."""
