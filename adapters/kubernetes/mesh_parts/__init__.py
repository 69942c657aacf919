"""What several meshes share: settings set alike, counters read alike, rights and identities."""
