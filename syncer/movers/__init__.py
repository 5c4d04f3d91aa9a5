"""One process per transport. Carries blocks between sites; decides nothing and knows no index."""
