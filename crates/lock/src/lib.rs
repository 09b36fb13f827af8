//! What you want (sconce.toml) to what it is, exactly (sconce.lock), with every choice explained.
