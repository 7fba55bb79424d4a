//! Seccomp: Docker's default profile and a compiler from OCI profiles to classic BPF.
