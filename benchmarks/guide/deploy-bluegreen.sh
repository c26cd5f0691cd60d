#!/bin/bash
# deploy-bluegreen.sh - Automatización de despliegue Blue-Green

set -e

HAPROXY_MAP="/etc/haproxy/backend.map"
CURRENT_ENV=$(grep "^/" $HAPROXY_MAP | awk '{print $2}')

if [ "$CURRENT_ENV" == "blue-backend" ]; then
    TARGET_ENV="green"
    TARGET_BACKEND="green-backend"
    DEPLOY_HOSTS="192.168.2.101 192.168.2.102 192.168.2.103"
else
    TARGET_ENV="blue"
    TARGET_BACKEND="blue-backend"
    DEPLOY_HOSTS="192.168.1.101 192.168.1.102 192.168.1.103"
fi

echo "Entorno actual: $CURRENT_ENV"
echo "Desplegando a: $TARGET_ENV"

# Desplegar nueva versión al entorno objetivo
for host in $DEPLOY_HOSTS; do
    echo "Desplegando a $host..."
    ssh deploy@$host << 'EOF'
        cd /opt/application
        git pull origin main
        ./build.sh
        ./deploy.sh
        systemctl restart application
EOF
done

# Health check del entorno objetivo
echo "Realizando health checks en entorno $TARGET_ENV..."
sleep 10

for host in $DEPLOY_HOSTS; do
    if ! curl -f http://$host:8080/health; then
        echo "Health check falló para $host"
        exit 1
    fi
done

echo "Health checks pasados. Listo para cambiar tráfico."
read -p "¿Cambiar tráfico al entorno $TARGET_ENV? (yes/no): " CONFIRM

if [ "$CONFIRM" != "yes" ]; then
    echo "Despliegue cancelado."
    exit 0
fi

# Cambiar tráfico
echo "Cambiando tráfico al entorno $TARGET_ENV..."
echo "/ $TARGET_BACKEND" > $HAPROXY_MAP

# Recargar configuración de HAProxy
systemctl reload haproxy

echo "Tráfico cambiado al entorno $TARGET_ENV."
echo "Monitoreando durante 5 minutos..."

# Monitorear problemas
for i in {1..30}; do
    ERROR_RATE=$(echo "show stat" | socat stdio /var/run/haproxy/admin.sock | \
        grep "$TARGET_BACKEND" | awk -F',' '{print $14}')

    if [ "$ERROR_RATE" -gt 10 ]; then
        echo "¡Tasa de error alta detectada! Revirtiendo..."
        echo "/ $CURRENT_ENV-backend" > $HAPROXY_MAP
        systemctl reload haproxy
        echo "Rollback completado."
        exit 1
    fi

    sleep 10
done

echo "¡Despliegue exitoso!"
echo "El entorno anterior ($CURRENT_ENV) ahora está inactivo y listo para el siguiente despliegue."
