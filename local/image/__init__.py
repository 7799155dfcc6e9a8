"""How the image is built, and proved where no image registry is within reach."""
