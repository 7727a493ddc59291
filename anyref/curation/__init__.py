"""From raw films to training samples: stages that score, decisions over stored scores, runners that resume; no Ray, no models at import."""
