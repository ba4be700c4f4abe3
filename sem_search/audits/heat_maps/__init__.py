"""What the network looks at: heat maps held against particles, and against themselves."""
