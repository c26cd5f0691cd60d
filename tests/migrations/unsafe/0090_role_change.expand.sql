CREATE ROLE reporting LOGIN PASSWORD 'example-not-real';
