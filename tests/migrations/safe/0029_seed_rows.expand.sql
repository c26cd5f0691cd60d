INSERT INTO countries (code, name) VALUES ('ES', 'España'), ('DE', 'Deutschland') ON CONFLICT DO NOTHING;
