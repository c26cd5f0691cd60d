"""Questions put to a running color over HTTP: health, smoke tests, prewarming, proof."""
