"""Object stores on the client's side: whole objects in and out of a bucket, verified at this end too."""
