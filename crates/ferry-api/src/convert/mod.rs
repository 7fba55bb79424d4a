//! What older API versions say differently. The only place that compares versions.
