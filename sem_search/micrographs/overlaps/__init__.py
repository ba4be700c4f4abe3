"""Which images show the same place of the specimen."""
