"""What a search found: outcome, conclusion, figures and the model of the winner."""
