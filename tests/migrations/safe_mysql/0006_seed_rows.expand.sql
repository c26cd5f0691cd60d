INSERT INTO countries (code) VALUES ('ES'), ('DE');
