#!/usr/bin/env bash
# Starts eight workers for one study as a job array:
#   STUDY=grid STORAGE=postgresql://sem_search@db/optuna MLFLOW_TRACKING_URI=http://db:5000 sbatch deploy/slurm/workers.sh
# The password stands in ~/.pgpass, not here. Slurm queues a pre-empted worker again; its finished folds stay.
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
# Since Slurm 22.05, srun no longer inherits the number of processors.
exec srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-4}" \
    .venv/bin/sem-search worker --study "$STUDY" --storage "$STORAGE" --wait 600
