"""user_manager: the service of accounts, tokens and address confirmation. It alone holds addresses and names."""
