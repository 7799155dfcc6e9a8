"""What README claims about speed, as commands. Ratios are taken side by side in one run: machines differ."""
