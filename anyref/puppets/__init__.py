"""The embedded models: Wan's architecture at toy size, trained on the puppet world from nothing."""
