"""The durable state of a site in one SQLite database: index, peers, folder identity. Owns every commit."""
