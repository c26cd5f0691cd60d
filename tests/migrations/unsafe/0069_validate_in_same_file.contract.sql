ALTER TABLE carts ADD CONSTRAINT total_positive CHECK (total > 0) NOT VALID;
ALTER TABLE carts VALIDATE CONSTRAINT total_positive;
