"""user_manager: accounts, tokens and address confirmation. It alone holds addresses and names."""
