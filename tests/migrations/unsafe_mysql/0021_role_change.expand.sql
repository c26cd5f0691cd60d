CREATE USER reporting IDENTIFIED BY 'example-not-real';
