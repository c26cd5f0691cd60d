#!/bin/bash
# nginx-bluegreen-deploy.sh

set -e

NGINX_MAP="/etc/nginx/backend.map"
CURRENT_BACKEND=$(grep '""' $NGINX_MAP | awk '{print $2}' | tr -d ';')

if [ "$CURRENT_BACKEND" == "blue_backend" ]; then
    TARGET="green"
    TARGET_BACKEND="green_backend"
else
    TARGET="blue"
    TARGET_BACKEND="blue_backend"
fi

echo "Desplegando al entorno $TARGET..."

# Desplegar aplicación (ejemplo usando Ansible)
ansible-playbook -i inventory/${TARGET}.ini deploy.yml

# Pruebas de humo
echo "Ejecutando pruebas de humo en $TARGET..."
./smoke-tests.sh $TARGET

# Opción de despliegue gradual
echo "Iniciando despliegue canary (10% tráfico a $TARGET)..."
cat > $NGINX_MAP << EOF
# Despliegue canary - 10% a $TARGET
"" $CURRENT_BACKEND 90;
"" $TARGET_BACKEND 10;
EOF

nginx -s reload

# Monitorear canary durante 5 minutos
sleep 300

# Cambio completo
echo "Cambio completo al entorno $TARGET..."
cat > $NGINX_MAP << EOF
# Backend activo
"" $TARGET_BACKEND;
EOF

nginx -s reload

echo "Despliegue completo. $TARGET ahora está sirviendo 100% de tráfico."
