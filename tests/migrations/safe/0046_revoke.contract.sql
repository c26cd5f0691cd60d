REVOKE INSERT ON orders FROM app_blue;
