"""What was answered, stored in a journal, and whether it has drifted."""
