//! Sequences that once broke a rule, shortened.
