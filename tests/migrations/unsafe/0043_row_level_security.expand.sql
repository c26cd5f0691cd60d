CREATE POLICY own_rows ON orders USING (owner = current_user);
