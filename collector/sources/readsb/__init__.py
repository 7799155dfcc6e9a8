"""What speaks the JSON of readsb: receivers of one's own (readsb, dump1090-fa, tar1090), and services that share."""
