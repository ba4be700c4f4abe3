#!/usr/bin/env bash
# Eight workers for one study, wherever Slurm finds room:
#   STUDY=grid STORAGE=postgresql://sem_search@db/optuna MLFLOW_TRACKING_URI=http://db:5000 sbatch deploy/slurm/workers.sh
# The password stands in ~/.pgpass, not here. A worker that is pre-empted is queued again; what it left is taken up.
#SBATCH --job-name=sem-search
#SBATCH --array=1-8
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
#SBATCH --output=sem-search-%A_%a.log
set -euo pipefail
: "${STUDY:?set STUDY to the name that the search printed}"
: "${STORAGE:?set STORAGE to the database URL of the study}"
: "${MLFLOW_TRACKING_URI:?set MLFLOW_TRACKING_URI to the tracking server}"
export MLFLOW_TRACKING_URI MLFLOW_DISABLE_TELEMETRY=true
# A cache on the node's own disk, where there is one: features are read again and again.
export SEM_SEARCH_CACHE="${SEM_SEARCH_CACHE:-${TMPDIR:-/tmp}/sem_search_$USER}"
cd "${SLURM_SUBMIT_DIR:-$PWD}"
# srun does not take over the number of processors since Slurm 22.05.
exec srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-4}" \
    .venv/bin/sem-search worker --study "$STUDY" --storage "$STORAGE" --wait 600
