"""Speed, shown as ratios against peers in the same run. `make bench` prints the tables."""
