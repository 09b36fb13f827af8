//! The NVIDIA driver on this machine: libraries, nodes, NVML, CDI, and which GPUs a container gets.
